// See micro_interpreter.h.
namespace tflite {
class MicroAllocator;
class MicroResourceVariables {
 public:
  static MicroResourceVariables *Create(MicroAllocator *allocator, int num_variables);
};
}  // namespace tflite
