// See micro_interpreter.h.
#include <cstdint>
#define TFLITE_SCHEMA_VERSION (3)

namespace tflite {
class Model {
 public:
  uint32_t version() const;
};
const Model *GetModel(const void *content);
}  // namespace tflite
