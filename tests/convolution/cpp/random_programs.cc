// Random programs, with strides, dilation, groups, signs, paddings and threads, against a plain loop.
//
//   c++ -std=c++17 -pthread -I tiedexp/convolution/cpp tests/convolution/cpp/random_programs.cc -o random_programs
//   ./random_programs 200
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "depthwise.h"

namespace {

using namespace tiedexp;

std::mt19937 generator(1);

int pick(int from, int to) { return std::uniform_int_distribution<int>(from, to)(generator); }

// The rows and columns of the kernel that the input or a sum covers: its own origin, and what its terms read.
struct Extent {
  int rows = 1, cols = 1;
};

Program build_program() {
  const int down = pick(1, 3), across = pick(1, 3);
  const int rows = pick(1, 4), cols = pick(1, 4);
  Program program;
  program.rows = (rows - 1) * down + 1;
  program.cols = (cols - 1) * across + 1;
  program.stride_down = pick(1, 3);
  program.stride_across = pick(1, 3);
  program.threads = pick(1, 4);
  std::vector<Extent> extents{{}};  // in cells; of the input, and then of the sums
  for (int count = pick(0, 3), sum = 0; sum < count; ++sum) {
    Extent extent;
    std::vector<Term> terms;
    for (int left = pick(1, 4), first = 1; left > 0; --left, first = 0) {
      const int source = pick(0, sum);
      const int row = first ? 0 : pick(0, std::max(0, rows - extents[source].rows));
      const int col = first ? 0 : pick(0, std::max(0, cols - extents[source].cols));
      if (extents[source].rows + row > rows || extents[source].cols + col > cols) continue;
      terms.push_back({source - 1, row * down, col * across, pick(0, 1) ? 1 : -1});
      extent.rows = std::max(extent.rows, extents[source].rows + row);
      extent.cols = std::max(extent.cols, extents[source].cols + col);
    }
    program.sums.push_back(terms);
    extents.push_back(extent);
  }
  for (int left = pick(1, 6); left > 0; --left) {
    const int source = pick(0, static_cast<int>(program.sums.size()));
    program.taps.push_back({source - 1, pick(0, rows - extents[source].rows) * down,
                            pick(0, cols - extents[source].cols) * across});
  }
  return program;
}

Size build_size(const Program& program) {
  Size size;
  size.batch = pick(0, 9) ? pick(1, 5) : 0;
  size.groups = program.groups;
  const bool depthwise = program.groups > 1 && pick(0, 1);
  size.channels = depthwise ? 1 : pick(0, 4) ? pick(1, 9) : 16 * pick(1, 5);
  size.filters = depthwise ? 1 : pick(0, 4) ? pick(1, 9) : pick(1, 90);
  size.rows = pick(1, pick(0, 4) ? 8 : 40);
  size.cols = pick(1, pick(0, 4) ? 8 : 120);
  size.out_rows = pick(0, size.rows + 1);
  size.out_cols = pick(0, size.cols + 1);
  size.above = pick(-2, program.rows + 1);
  size.left = pick(-2, program.cols + 1);
  return size;
}

// A sum of a program at a pixel of the padded input, by its definition.
double read_sum(const Program& program, const Size& size, const double* input, int source, int row, int col) {
  if (source < 0) {
    row -= size.above;
    col -= size.left;
    const bool is_inside = row >= 0 && row < size.rows && col >= 0 && col < size.cols;
    return is_inside ? input[(static_cast<ptrdiff_t>(row) * size.cols + col) * size.all_channels()] : 0;
  }
  double sum = 0;
  for (const Term& term : program.sums[source]) {
    sum += term.sign * read_sum(program, size, input, term.source, row + term.row, col + term.col);
  }
  return sum;
}

// Calls visit(weight, channel's value, output) for all products.
template <typename Visit>
void visit_products(const Program& program, const Size& size, const std::vector<double>& input, Visit visit) {
  size_t output = 0;
  for (int64_t number = 0; number < size.batch; ++number) {
    for (int row = 0; row < size.out_rows; ++row) {
      for (int col = 0; col < size.out_cols; ++col, output += size.all_filters()) {
        for (size_t tap = 0; tap < program.taps.size(); ++tap) {
          for (int channel = 0; channel < size.all_channels(); ++channel) {
            const double value = read_sum(
                program, size, input.data() + number * size.rows * size.cols * size.all_channels() + channel,
                program.taps[tap].source, row * program.stride_down + program.taps[tap].row,
                col * program.stride_across + program.taps[tap].col);
            const int first = channel / size.channels * size.filters;
            for (int filter = first; filter < first + size.filters; ++filter) {
              visit((tap * size.channels + channel % size.channels) * size.all_filters() + filter, value,
                    output + filter);
            }
          }
        }
      }
    }
  }
}

// Numbers on the heap, in memory of just their size, so that a read beyond is found.
template <typename T>
std::vector<T> convert(const std::vector<double>& numbers) {
  return std::vector<T>(numbers.begin(), numbers.end());
}

std::vector<double> draw(size_t count) {
  std::vector<double> numbers(count);
  for (double& number : numbers) number = std::uniform_real_distribution<double>(-1, 1)(generator);
  return numbers;
}

template <typename T>
bool is_close(const std::vector<double>& expected, const std::vector<T>& found) {
  double largest = 1, error = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    error = std::max(error, std::abs(expected[i] - found[i]) + (std::isfinite(found[i]) ? 0 : 1e9));
  }
  return error <= largest * (sizeof(T) == 4 ? 1e-5 : 1e-13);
}

template <typename T>
bool compare(const Program& program, const Size& size) {
  const size_t pixels = size.batch * size.out_rows * size.out_cols;
  const std::vector<double> input = draw(size.batch * size.rows * size.cols * size.all_channels());
  const std::vector<double> weights = draw(program.taps.size() * size.channels * size.all_filters());
  const std::vector<double> upstream = draw(pixels * size.all_filters());
  std::vector<double> output(upstream.size()), gradient(weights.size());
  visit_products(program, size, input, [&](size_t weight, double value, size_t to) {
    output[to] += weights[weight] * value;
    gradient[weight] += upstream[to] * value;
  });
  std::vector<T> found_output(output.size(), T(7)), found_gradient(gradient.size(), T(7));
  const bool depthwise = size.groups > 1 && size.channels == 1 && size.filters == 1;
  (depthwise ? convolve_depthwise<T> : tiedexp::convolve<T>)(
      program, size, convert<T>(input).data(), convert<T>(weights).data(), found_output.data());
  (depthwise ? correlate_depthwise<T> : correlate<T>)(
      program, size, convert<T>(input).data(), convert<T>(upstream).data(), found_gradient.data());
  return is_close(output, found_output) && is_close(gradient, found_gradient);
}

}  // namespace

int main(int, char** arguments) {
  for (int count = std::atoi(arguments[1]), number = 0; number < count; ++number) {
    Program program = build_program();
    program.groups = pick(0, 1) ? 1 : pick(1, 40);
    const Size size = build_size(program);
    if (size.batch * size.out_rows * size.out_cols * size.all_channels() * size.filters > 200'000) continue;
    if (!compare<float>(program, size) || !compare<double>(program, size)) {
      std::printf("program %d differs: %d groups of %d channels and %d filters, %d threads\n", number, size.groups,
                  size.channels, size.filters, program.threads);
      return 1;
    }
  }
  std::puts("all equal");
}
