/* Log-mel of 16-bit sound, hop by hop, as the network was trained on it. C99, no allocation. */
#ifndef FEDSPEECH_FRONT_END_H
#define FEDSPEECH_FRONT_END_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FEDSPEECH_RATE_HZ {{ spec.rate_hz }}
#define FEDSPEECH_WINDOW {{ spec.window_samples }}
#define FEDSPEECH_HOP {{ spec.hop_samples }}
#define FEDSPEECH_MELS {{ spec.num_mels }}
#define FEDSPEECH_FLOOR {{ floor }}
/* Of the model's input: log-mel = scale * (integer - zero point). */
#define FEDSPEECH_INPUT_SCALE {{ scale }}
#define FEDSPEECH_INPUT_ZERO_POINT {{ zero_point }}

/* One stream; its size is its whole memory. */
typedef struct {
  float work[FEDSPEECH_WINDOW + 2];
  int16_t past[FEDSPEECH_WINDOW - FEDSPEECH_HOP + 1];
} fedspeech_front_end;

/* Begins a stream: what was heard before is digital silence. */
void fedspeech_front_end_reset(fedspeech_front_end *front_end);

/* Takes the next FEDSPEECH_HOP samples; gives FEDSPEECH_MELS natural logarithms. */
void fedspeech_front_end_hop(fedspeech_front_end *front_end, const int16_t *samples,
                             float *log_mel);

/* Log-mel as the model takes it, rounded to the nearest integer and then limited. */
void fedspeech_quantize(const float *log_mel, int8_t *integers);

#ifdef __cplusplus
}
#endif
#endif
