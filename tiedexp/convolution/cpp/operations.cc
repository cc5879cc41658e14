// The convolution as operations of TensorFlow, through its C interface, which does not change between versions.
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include "checks.h"
#include "convolution.h"
#include "depthwise.h"
#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

namespace {

using tiedexp::Program;
using tiedexp::Size;

struct Deleter {
  void operator()(TF_Status* status) const { TF_DeleteStatus(status); }
  void operator()(TF_Tensor* tensor) const { TF_DeleteTensor(tensor); }
};
using Status = std::unique_ptr<TF_Status, Deleter>;
using Tensor = std::unique_ptr<TF_Tensor, Deleter>;

bool is_ok(const Status& status) { return TF_GetCode(status.get()) == TF_OK; }

void set_invalid(const Status& status, const std::string& sentence) {
  if (!sentence.empty()) TF_SetStatus(status.get(), TF_INVALID_ARGUMENT, sentence.c_str());
}

std::vector<int32_t> read_list(TF_OpKernelConstruction* context, const char* name, const Status& status) {
  if (!is_ok(status)) return {};
  int32_t length = 0, bytes = 0;
  TF_OpKernelConstruction_GetAttrSize(context, name, &length, &bytes, status.get());
  std::vector<int64_t> values(is_ok(status) ? length : 0);
  if (!values.empty()) {
    TF_OpKernelConstruction_GetAttrInt64List(context, name, values.data(), length, status.get());
  }
  for (const int64_t value : values) {
    if (value != static_cast<int32_t>(value)) {
      set_invalid(status, std::string(name) + " has " + std::to_string(value) + ", which is out of the range of int32");
      return {};
    }
  }
  return {values.begin(), values.end()};
}

// Runs what may throw. TensorFlow calls these functions from C, so no exception may leave them.
template <typename Body>
void guard(const Status& status, Body body) {
  try {
    body();
  } catch (const std::bad_alloc&) {
    TF_SetStatus(status.get(), TF_RESOURCE_EXHAUSTED, "there is not enough memory for a tied convolution");
  } catch (const std::system_error& error) {
    TF_SetStatus(status.get(), TF_RESOURCE_EXHAUSTED, error.what());
  } catch (const std::exception& error) {
    TF_SetStatus(status.get(), TF_INTERNAL, error.what());
  }
}

// Sums as (number of terms, then sum, row, column and sign of each), one after the other. Returns what is wrong.
std::string parse_sums(const std::vector<int32_t>& numbers, Program& program) {
  for (size_t i = 0; i < numbers.size();) {
    const int32_t count = numbers[i++];
    if (count < 1 || static_cast<size_t>(count) > (numbers.size() - i) / 4) {
      return "sums must be, for each sum, the number of its terms, then sum, row, column and sign of each term";
    }
    std::vector<tiedexp::Term>& terms = program.sums.emplace_back();
    for (int32_t term = 0; term < count; ++term, i += 4) {
      terms.push_back({numbers[i], numbers[i + 1], numbers[i + 2], numbers[i + 3]});
    }
  }
  return "";
}

// The attributes that `tiedexp.convolution.native` writes. Returns what is wrong.
std::string parse_program(const std::vector<int32_t>& sums, const std::vector<int32_t>& taps,
                          const std::vector<int32_t>& sizes, Program& program) {
  if (taps.size() % 3) return "taps must be sum, row and column of each";
  if (sizes.size() != 6) return "sizes must be rows, columns, strides down and across, groups and threads";
  const std::string fault = parse_sums(sums, program);
  if (!fault.empty()) return fault;
  for (size_t i = 0; i < taps.size(); i += 3) program.taps.push_back({taps[i], taps[i + 1], taps[i + 2]});
  program.rows = sizes[0];
  program.cols = sizes[1];
  program.stride_down = sizes[2];
  program.stride_across = sizes[3];
  program.groups = sizes[4];
  program.threads = sizes[5];
  return tiedexp::find_fault(program);
}

void* create(TF_OpKernelConstruction* context) {
  Status status(TF_NewStatus());
  std::unique_ptr<Program> program;
  guard(status, [&] {
    program = std::make_unique<Program>();
    const std::vector<int32_t> sums = read_list(context, "sums", status), taps = read_list(context, "taps", status),
                               sizes = read_list(context, "sizes", status);
    if (is_ok(status)) set_invalid(status, parse_program(sums, taps, sizes, *program));
  });
  if (is_ok(status)) return program.release();
  TF_OpKernelConstruction_Failure(context, status.get());
  return nullptr;
}

void destroy(void* program) { delete static_cast<Program*>(program); }

Tensor read_input(TF_OpKernelContext* context, int number, int rank, const Status& status) {
  TF_Tensor* tensor = nullptr;
  if (!is_ok(status)) return nullptr;
  TF_GetInput(context, number, &tensor, status.get());
  if (is_ok(status) && TF_NumDims(tensor) != rank) {
    set_invalid(status, "input " + std::to_string(number) + " must have " + std::to_string(rank) + " axes");
  }
  return Tensor(tensor);
}

template <typename T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(TF_TensorData(tensor.get()));
}

Tensor allocate(TF_OpKernelContext* context, TF_DataType dtype, std::vector<int64_t> shape, size_t element,
                const Status& status) {
  int64_t bytes = static_cast<int64_t>(element);
  for (int64_t length : shape) {
    if (__builtin_mul_overflow(bytes, length, &bytes)) {
      set_invalid(status, "the result has more elements than a tensor can have");
      return nullptr;
    }
  }
  return Tensor(TF_AllocateOutput(context, 0, dtype, shape.data(), static_cast<int>(shape.size()), bytes,
                                  status.get()));
}

// The window is (above, left, rows of the output, its columns).
Size read_size(const Program& program, const Tensor& images, int64_t filters, const int32_t* window,
               const Status& status) {
  const auto dim = [&](int axis) { return TF_Dim(images.get(), axis); };
  const tiedexp::Sides sides{dim(0), dim(1), dim(2), dim(3), window[2], window[3], filters, window[0], window[1]};
  const std::string fault = tiedexp::find_fault(program, sides);
  if (!fault.empty()) {
    set_invalid(status, fault);
    return {};
  }
  return {sides.batch,
          program.groups,
          static_cast<int>(sides.rows),
          static_cast<int>(sides.cols),
          static_cast<int>(sides.channels) / program.groups,
          window[2],
          window[3],
          static_cast<int>(filters) / program.groups,
          window[0],
          window[1]};
}

bool is_depthwise(const Size& size) { return size.groups > 1 && size.channels == 1 && size.filters == 1; }

// Reads the inputs of both operations, images, the other tensor and the window, and computes with them.
template <typename Compute>
void run(TF_OpKernelContext* context, int rank_of_other, Compute compute) {
  Status status(TF_NewStatus());
  guard(status, [&] {
    const Tensor images = read_input(context, 0, 4, status), other = read_input(context, 1, rank_of_other, status),
                 window = read_input(context, 2, 1, status);
    if (!is_ok(status)) return;
    if (TF_Dim(window.get(), 0) != 4) return set_invalid(status, "the window must have four numbers");
    compute(images, other, data<const int32_t>(window), status);
  });
  if (!is_ok(status)) TF_OpKernelContext_Failure(context, status.get());
}

template <typename T, TF_DataType dtype>
void convolve(void* kernel, TF_OpKernelContext* context) {
  const Program& program = *static_cast<Program*>(kernel);
  run(context, 3, [&](const Tensor& images, const Tensor& weights, const int32_t* window, const Status& status) {
    const Size size = read_size(program, images, TF_Dim(weights.get(), 2), window, status);
    if (!is_ok(status)) return;
    if (TF_Dim(weights.get(), 0) != static_cast<int64_t>(program.taps.size()) ||
        TF_Dim(weights.get(), 1) != size.channels) {
      return set_invalid(status, "weights must be (taps, channels // groups, filters)");
    }
    const Tensor output =
        allocate(context, dtype, {size.batch, size.out_rows, size.out_cols, size.all_filters()}, sizeof(T), status);
    if (is_ok(status)) {
      const auto compute = is_depthwise(size) ? tiedexp::convolve_depthwise<T> : tiedexp::convolve<T>;
      compute(program, size, data<const T>(images), data<const T>(weights), data<T>(output));
    }
  });
}

template <typename T, TF_DataType dtype>
void correlate(void* kernel, TF_OpKernelContext* context) {
  const Program& program = *static_cast<Program*>(kernel);
  run(context, 4, [&](const Tensor& images, const Tensor& upstream, const int32_t* window, const Status& status) {
    const Size size = read_size(program, images, TF_Dim(upstream.get(), 3), window, status);
    if (!is_ok(status)) return;
    if (TF_Dim(upstream.get(), 0) != size.batch || TF_Dim(upstream.get(), 1) != size.out_rows ||
        TF_Dim(upstream.get(), 2) != size.out_cols) {
      return set_invalid(status, "upstream must be (batch, rows, cols, filters) of the output");
    }
    const int64_t taps = static_cast<int64_t>(program.taps.size());
    const Tensor output = allocate(context, dtype, {taps, size.channels, size.all_filters()}, sizeof(T), status);
    if (is_ok(status)) {
      const auto compute = is_depthwise(size) ? tiedexp::correlate_depthwise<T> : tiedexp::correlate<T>;
      compute(program, size, data<const T>(images), data<const T>(upstream), data<T>(output));
    }
  });
}

void register_operation(const char* name, const char* other, const char* output) {
  TF_OpDefinitionBuilder* builder = TF_NewOpDefinitionBuilder(name);
  for (const char* attribute : {"T: {float, double}", "sums: list(int)", "taps: list(int)", "sizes: list(int)"}) {
    TF_OpDefinitionBuilderAddAttr(builder, attribute);
  }
  for (const char* input : {"images: T", other, "window: int32"}) TF_OpDefinitionBuilderAddInput(builder, input);
  TF_OpDefinitionBuilderAddOutput(builder, output);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(builder, &TF_ShapeInferenceContextSetUnknownShape);
  Status status(TF_NewStatus());
  TF_RegisterOpDefinition(builder, status.get());
}

void register_kernel(const char* name, TF_DataType dtype, void (*compute)(void*, TF_OpKernelContext*)) {
  Status status(TF_NewStatus());
  TF_KernelBuilder* builder = TF_NewKernelBuilder(name, "CPU", &create, compute, &destroy);
  TF_KernelBuilder_TypeConstraint(builder, "T", dtype, status.get());
  TF_RegisterKernelBuilder(name, builder, status.get());
}

[[maybe_unused]] const bool registered = [] {
  register_operation("TiedexpConvolve", "weights: T", "output: T");
  register_operation("TiedexpCorrelate", "upstream: T", "gradient: T");
  register_kernel("TiedexpConvolve", TF_FLOAT, &convolve<float, TF_FLOAT>);
  register_kernel("TiedexpConvolve", TF_DOUBLE, &convolve<double, TF_DOUBLE>);
  register_kernel("TiedexpCorrelate", TF_FLOAT, &correlate<float, TF_FLOAT>);
  register_kernel("TiedexpCorrelate", TF_DOUBLE, &correlate<double, TF_DOUBLE>);
  return true;
}();

}  // namespace
