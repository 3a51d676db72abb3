// Declares what `listener.cc` uses of TensorFlow Lite Micro, so that it compiles without it.
#ifndef TFLM_MICRO_INTERPRETER_H
#define TFLM_MICRO_INTERPRETER_H
#include <cstddef>
#include <cstdint>

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
union TfLitePtrUnion {
  float *f;
  int8_t *int8;
};
struct TfLiteTensor {
  TfLitePtrUnion data;
};

namespace tflite {
class Model;
class MicroAllocator;
class MicroResourceVariables;
class MicroOpResolver {
 public:
  virtual ~MicroOpResolver() {}
};
class MicroInterpreter {
 public:
  MicroInterpreter(const Model *model, const MicroOpResolver &resolver, MicroAllocator *allocator,
                   MicroResourceVariables *variables = nullptr, void *profiler = nullptr);
  ~MicroInterpreter();
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor *input(size_t index);
  TfLiteTensor *output(size_t index);
};
}  // namespace tflite
#endif
