// Sound in, probabilities of the labels out, on TensorFlow Lite Micro. One object is one stream.
#ifndef FEDSPEECH_LISTENER_H
#define FEDSPEECH_LISTENER_H

#include <cstdint>

#include "front_end.h"
#include "model_micro.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/micro_resource_variable.h"

namespace fedspeech {

class Listener {
 public:
  Listener() = default;
  Listener(const Listener &) = delete;
  Listener &operator=(const Listener &) = delete;
  ~Listener();

  // Begins a stream, or begins it anew: digital silence was heard before. False if the model does
  // not load. `MicroInterpreter::Reset` does not do it: it leaves zeros where silence must stand.
  bool Begin();

  // Takes the next FEDSPEECH_HOP samples. True where they complete an answer, which is once in
  // kFramesPerCall hops; `probabilities` then holds one value per label.
  bool Hop(const int16_t *samples);

  // Label whose mean probability over the last answers is above its threshold, of several the one
  // that is furthest above it in log-odds, once per word; else -1. The last two labels, other words
  // and silence, are never given. Thresholds and durations are those of this file in card.json; a
  // margin above 0, in log-odds, asks for more than they do.
  int Detected(float margin = 0.0f);

  const float *probabilities() const { return probabilities_; }

 private:
  static constexpr int kSmoothed = {{ rules.smoothing_hops }};  // answers
  static constexpr int kCooldown = {{ rules.cooldown_hops }};  // answers without a detection after one

  void Score(const float *logits);

  alignas(16) uint8_t arena_[kArenaBytes];
  alignas(tflite::MicroInterpreter) uint8_t interpreter_memory_[sizeof(tflite::MicroInterpreter)];
  tflite::MicroInterpreter *interpreter_ = nullptr;
  fedspeech_front_end front_end_;
  int frames_ = 0;
  int answers_ = 0;
  int quiet_ = 0;
  float probabilities_[kNumLabels];
  float recent_[kSmoothed][kNumLabels];
};

}  // namespace fedspeech

#endif
