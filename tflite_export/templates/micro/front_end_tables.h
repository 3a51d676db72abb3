/* Tables of front_end.c, computed from the front end of the model's card. */
#ifndef FEDSPEECH_FRONT_END_TABLES_H
#define FEDSPEECH_FRONT_END_TABLES_H

#include <stdint.h>

/* Hann's window, divided by its sum and by 32768. */
static const float fedspeech_window[{{ window | length }}] = {
{{ floats(window) }}};
/* exp(-2 pi i k / window): real part, and the imaginary part without its sign. */
static const float fedspeech_cosines[{{ cosines | length }}] = {
{{ floats(cosines) }}};
static const float fedspeech_sines[{{ sines | length }}] = {
{{ floats(sines) }}};
/* Of each filter: first bin of the spectrum, number of bins, and their weights one after another. */
static const uint16_t fedspeech_mel_first[{{ first | length }}] = {
{{ integers(first) }}};
static const uint16_t fedspeech_mel_bins[{{ bins | length }}] = {
{{ integers(bins) }}};
static const float fedspeech_mel_weights[{{ weights | length }}] = {
{{ floats(weights) }}};

#endif
