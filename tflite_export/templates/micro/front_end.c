/* See front_end.h. Single precision throughout: the powers of a spectrum span ten decades, for
 * which fixed point of 16 bits needs a scale per block and loses the quiet bands all the same,
 * and every microcontroller that runs the network in real time has a unit for floats. */
#include "front_end.h"

#include <math.h>
#include <string.h>

#include "front_end_tables.h"

#define POINTS (FEDSPEECH_WINDOW / 2) /* of the complex transform behind the real one */

/* Complex FFT in place, radix 2: `points` pairs of real and imaginary part. */
static void transform(float *pairs) {
  for (int i = 1, j = 0; i < POINTS; i++) {
    int bit = POINTS >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      for (int part = 0; part < 2; part++) {
        const float kept = pairs[2 * i + part];
        pairs[2 * i + part] = pairs[2 * j + part];
        pairs[2 * j + part] = kept;
      }
    }
  }
  for (int half = 1; half < POINTS; half <<= 1) {
    /* The table holds exp(-2 pi i k / FEDSPEECH_WINDOW); a turn of 2 half points takes this step. */
    const int step = FEDSPEECH_WINDOW / (2 * half);
    for (int first = 0; first < POINTS; first += 2 * half) {
      for (int k = 0; k < half; k++) {
        float *const a = pairs + 2 * (first + k);
        float *const b = a + 2 * half;
        const float c = fedspeech_cosines[k * step], s = fedspeech_sines[k * step];
        const float real = b[0] * c + b[1] * s, imaginary = b[1] * c - b[0] * s;
        b[0] = a[0] - real;
        b[1] = a[1] - imaginary;
        a[0] += real;
        a[1] += imaginary;
      }
    }
  }
}

/* |X|^2 of one bin of the real transform, from the complex one of even and odd samples. */
static float power(const float *pairs, int bin) {
  const float *const here = pairs + 2 * (bin % POINTS);
  const float *const there = pairs + 2 * ((POINTS - bin) % POINTS);
  const float even_real = 0.5f * (here[0] + there[0]), even_imaginary = 0.5f * (here[1] - there[1]);
  const float odd_real = 0.5f * (here[1] + there[1]), odd_imaginary = 0.5f * (there[0] - here[0]);
  /* At POINTS the table ends; there the factor is -1. */
  const float c = bin < POINTS ? fedspeech_cosines[bin] : -1.0f;
  const float s = bin < POINTS ? fedspeech_sines[bin] : 0.0f;
  const float real = even_real + odd_real * c + odd_imaginary * s;
  const float imaginary = even_imaginary + odd_imaginary * c - odd_real * s;
  return real * real + imaginary * imaginary;
}

void fedspeech_front_end_reset(fedspeech_front_end *front_end) {
  memset(front_end, 0, sizeof *front_end);
}

void fedspeech_front_end_hop(fedspeech_front_end *front_end, const int16_t *samples,
                             float *log_mel) {
  const int kept = FEDSPEECH_WINDOW - FEDSPEECH_HOP;
  float *const work = front_end->work;
  /* Full scale is 1, which the window has in it. */
  for (int i = 0; i < kept; i++) work[i] = (float)front_end->past[i] * fedspeech_window[i];
  for (int i = 0; i < FEDSPEECH_HOP; i++)
    work[kept + i] = (float)samples[i] * fedspeech_window[kept + i];
  /* The newest samples that the next window has too. */
  for (int i = 0; i < kept; i++) {
    const int place = i + FEDSPEECH_HOP;
    front_end->past[i] = place < kept ? front_end->past[place] : samples[place - kept];
  }
  transform(work);
  const float *weight = fedspeech_mel_weights;
  for (int mel = 0; mel < FEDSPEECH_MELS; mel++) {
    float energy = 0.0f;
    const int first = fedspeech_mel_first[mel];
    for (int bin = first; bin < first + fedspeech_mel_bins[mel]; bin++)
      energy += power(work, bin) * *weight++;
    log_mel[mel] = logf(energy + FEDSPEECH_FLOOR);
  }
}

void fedspeech_quantize(const float *log_mel, int8_t *integers) {
  for (int mel = 0; mel < FEDSPEECH_MELS; mel++) {
    const float rounded = rintf(log_mel[mel] / FEDSPEECH_INPUT_SCALE) + FEDSPEECH_INPUT_ZERO_POINT;
    integers[mel] = (int8_t)(rounded < -128.0f ? -128.0f : rounded > 127.0f ? 127.0f : rounded);
  }
}
