/* Runs the front end on golden vectors: prints the largest distance from the training's own
 * features in quantization steps, and returns 0 if it is at most one. */
#include <stdio.h>
#include <stdlib.h>

#include "front_end.h"

#define HOPS {{ hops }}

static const int16_t samples[HOPS * FEDSPEECH_HOP] = {
{{ integers(samples) }}};
static const int8_t expected[HOPS * FEDSPEECH_MELS] = {
{{ integers(expected) }}};

int main(void) {
  static fedspeech_front_end front_end;
  float log_mel[FEDSPEECH_MELS];
  int8_t found[FEDSPEECH_MELS];
  int worst = 0, moved = 0;
  fedspeech_front_end_reset(&front_end);
  for (int hop = 0; hop < HOPS; hop++) {
    fedspeech_front_end_hop(&front_end, samples + hop * FEDSPEECH_HOP, log_mel);
    fedspeech_quantize(log_mel, found);
    for (int mel = 0; mel < FEDSPEECH_MELS; mel++) {
      const int difference = abs(found[mel] - expected[hop * FEDSPEECH_MELS + mel]);
      moved += difference > 0;
      if (difference > worst) worst = difference;
    }
  }
  printf("largest difference %d steps, %d of %d values differ\n", worst, moved,
         HOPS * FEDSPEECH_MELS);
  return worst > 1;
}
