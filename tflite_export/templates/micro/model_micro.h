// The model in model_micro.cc, and what it needs.
#ifndef FEDSPEECH_MODEL_MICRO_H
#define FEDSPEECH_MODEL_MICRO_H

#include <cstddef>
#include <cstdint>

extern "C" const unsigned char fedspeech_model_micro[];
extern "C" const size_t fedspeech_model_micro_len;

namespace fedspeech {

constexpr int kFramesPerCall = {{ file.frames }};
constexpr int kResourceVariables = {{ file.resource_variables }};
// Measured with pointers of 64 bits, rounded up; where they have 32, less is taken.
constexpr size_t kArenaBytes = {{ arena }};
constexpr int kNumLabels = {{ labels | length }};
constexpr const char *kLabels[kNumLabels] = {
{% for label in labels %}
    {{ label }},
{% endfor %}
};

}  // namespace fedspeech

#endif
