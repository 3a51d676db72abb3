// See micro_interpreter.h.
#include "tensorflow/lite/micro/micro_interpreter.h"

namespace tflite {
template <unsigned int count>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  TfLiteStatus AddAdd();
  TfLiteStatus AddRelu();
};
}  // namespace tflite
