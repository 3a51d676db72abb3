// See listener.h.
#include "listener.h"

#include <cmath>
#include <new>

#include "tensorflow/lite/micro/micro_allocator.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace fedspeech {
namespace {

using Resolver = tflite::MicroMutableOpResolver<{{ operators | length }}>;

// Log-odds of each word's threshold: {{ origin }}.
constexpr float kLevels[] = {
{% for word, level in levels %}
    {{ number(level) }},  // {{ word }}
{% endfor %}
};

// The operators of the model and no others, so that no kernel is linked in vain.
bool Register(Resolver *resolver) {
{% for operator in operators %}
  if (resolver->{{ operator }}() != kTfLiteOk) return false;
{% endfor %}
  return true;
}

const Resolver *Operators() {
  static Resolver resolver;
  static const bool registered = Register(&resolver);
  return registered ? &resolver : nullptr;
}

}  // namespace

Listener::~Listener() {
  if (interpreter_ != nullptr) interpreter_->~MicroInterpreter();
}

bool Listener::Begin() {
  if (interpreter_ != nullptr) interpreter_->~MicroInterpreter();
  interpreter_ = nullptr;
  frames_ = answers_ = quiet_ = 0;
  fedspeech_front_end_reset(&front_end_);
  const tflite::Model *model = tflite::GetModel(fedspeech_model_micro);
  const Resolver *resolver = Operators();
  if (resolver == nullptr || model->version() != TFLITE_SCHEMA_VERSION) return false;
  tflite::MicroAllocator *allocator = tflite::MicroAllocator::Create(arena_, kArenaBytes);
  if (allocator == nullptr) return false;
  // What the stream remembers; room for it comes from the arena as well.
  auto *variables = tflite::MicroResourceVariables::Create(allocator, kResourceVariables);
  if (variables == nullptr) return false;
  interpreter_ = new (interpreter_memory_)
      tflite::MicroInterpreter(model, *resolver, allocator, variables);
  return interpreter_->AllocateTensors() == kTfLiteOk;
}

bool Listener::Hop(const int16_t *samples) {
  float log_mel[FEDSPEECH_MELS];
  fedspeech_front_end_hop(&front_end_, samples, log_mel);
  int8_t *input = interpreter_->input(0)->data.int8;
  fedspeech_quantize(log_mel, input + frames_ * FEDSPEECH_MELS);
  if (++frames_ < kFramesPerCall) return false;
  frames_ = 0;
  if (interpreter_->Invoke() != kTfLiteOk) return false;
  Score(interpreter_->output(0)->data.f);
  return true;
}

void Listener::Score(const float *logits) {
  float largest = logits[0], sum = 0.0f;
  for (int label = 1; label < kNumLabels; label++) largest = std::fmax(largest, logits[label]);
  for (int label = 0; label < kNumLabels; label++) {
    probabilities_[label] = std::exp(logits[label] - largest);
    sum += probabilities_[label];
  }
  for (int label = 0; label < kNumLabels; label++) {
    probabilities_[label] /= sum;
    recent_[answers_ % kSmoothed][label] = probabilities_[label];
  }
  answers_++;
  if (quiet_ > 0) quiet_--;
}

int Listener::Detected(float margin) {
  if (answers_ < kSmoothed || quiet_ > 0) return -1;
  int likeliest = -1;
  float most = margin;
  for (int label = 0; label < kNumLabels - 2; label++) {
    float mean = 0.0f;
    for (int answer = 0; answer < kSmoothed; answer++) mean += recent_[answer][label] / kSmoothed;
    // A mean of 1, which rounding reaches, is above every threshold.
    const float above = std::log(mean / std::fmax(1.0f - mean, 1e-7f)) - kLevels[label];
    if (above >= most) {
      most = above;
      likeliest = label;
    }
  }
  if (likeliest >= 0) quiet_ = kCooldown + 1;  // the next answer takes one off before it is asked
  return likeliest;
}

}  // namespace fedspeech
