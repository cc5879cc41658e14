// Checks of a program and of the sizes that it runs with, so that nothing is read or written outside of a tensor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sums.h"

namespace tiedexp {

// Rows or columns of a kernel, with its dilation, and strides; more threads than any machine has cores.
constexpr int64_t kMaxKernel = 1 << 15, kMaxThreads = 1024;
// Rows, columns, channels or filters of a tensor, and pixels between the first and the last read.
constexpr int64_t kMaxSide = 1 << 24, kMaxReach = 1 << 30;
// Elements of the padded input and of its sums, for one image of the batch.
constexpr double kMaxElements = 1e18;

inline bool is_between(int64_t number, int64_t low, int64_t high) { return low <= number && number <= high; }

// Rows and columns of the kernel at which a sum or the input is read.
struct Area {
  Span rows, cols;
  bool is_inside(const Program& program) const {
    return !rows.is_read || (rows.first >= 0 && rows.last < program.rows && cols.first >= 0 && cols.last < program.cols);
  }
};

// Taps and terms read a sum at rows and columns of the kernel. Each must lie within the kernel, and so must everything
// that the sum reads in turn, down to the input. This is the case if every sum contains its own origin (one of its terms
// reads at row 0 and column 0, directly or through other sums) and no tap reaches beyond the kernel. `Block` relies on
// it: its sums have only the rows and columns that the kernel needs.
inline std::string find_fault_of_reads(const Program& program) {
  const int count = static_cast<int>(program.sums.size());
  std::vector<Area> areas(count + 1);
  const auto read = [&](int source, int64_t first_row, int64_t last_row, int64_t first_col, int64_t last_col) {
    if (first_row < 0 || last_row >= program.rows || first_col < 0 || last_col >= program.cols) return false;
    areas[source + 1].rows.include(static_cast<int>(first_row), static_cast<int>(last_row));
    areas[source + 1].cols.include(static_cast<int>(first_col), static_cast<int>(last_col));
    return true;
  };
  for (const Tap& tap : program.taps) {
    if (!is_between(tap.source, -1, count - 1)) return "a tap reads sum " + std::to_string(tap.source) + ", of " +
                                                       std::to_string(count);
    if (!read(tap.source, tap.row, tap.row, tap.col, tap.col)) {
      return "a tap reads row " + std::to_string(tap.row) + " and column " + std::to_string(tap.col) +
             ", outside of the kernel of " + std::to_string(program.rows) + "x" + std::to_string(program.cols);
    }
  }
  for (int sum = count - 1; sum >= 0; --sum) {
    const Area area = areas[sum + 1];
    for (const Term& term : program.sums[sum]) {
      if (!is_between(term.source, -1, sum - 1)) {
        return "sum " + std::to_string(sum) + " reads sum " + std::to_string(term.source) +
               ", which is not an earlier one";
      }
      if (term.sign != 1 && term.sign != -1) return "the sign of a term is neither 1 nor -1";
      if (!area.rows.is_read) continue;
      if (!read(term.source, int64_t{area.rows.first} + term.row, int64_t{area.rows.last} + term.row,
                int64_t{area.cols.first} + term.col, int64_t{area.cols.last} + term.col)) {
        return "sum " + std::to_string(sum) + " reads outside of the kernel";
      }
    }
  }
  return "";
}

// What is wrong with the attributes of an operation, as a sentence; empty if nothing is.
inline std::string find_fault(const Program& program) {
  const auto is_kernel = [](int side) { return is_between(side, 1, kMaxKernel); };
  if (!is_kernel(program.rows) || !is_kernel(program.cols)) {
    return "the kernel must have 1 to " + std::to_string(kMaxKernel) + " rows and columns";
  }
  if (!is_kernel(program.stride_down) || !is_kernel(program.stride_across)) {
    return "strides must be 1 to " + std::to_string(kMaxKernel);
  }
  if (!is_between(program.groups, 1, kMaxSide)) return "groups must be 1 to " + std::to_string(kMaxSide);
  if (!is_between(program.threads, 1, kMaxThreads)) return "threads must be 1 to " + std::to_string(kMaxThreads);
  if (program.taps.empty()) return "there must be at least one tap";
  return find_fault_of_reads(program);
}

// Sizes as tensors have them: channels and filters of all groups together.
struct Sides {
  int64_t batch, rows, cols, channels, out_rows, out_cols, filters, above, left;
};

// What is wrong with the sizes for a valid program; empty if nothing is.
inline std::string find_fault(const Program& program, const Sides& sides) {
  if (sides.out_rows < 0 || sides.out_cols < 0) return "the images are smaller than the kernel";
  for (const int64_t side : {sides.rows, sides.cols, sides.out_rows, sides.out_cols}) {
    if (!is_between(side, 0, kMaxSide)) return "images can have up to " + std::to_string(kMaxSide) + " rows and columns";
  }
  if (!is_between(sides.above, -kMaxSide, kMaxSide) || !is_between(sides.left, -kMaxSide, kMaxSide)) {
    return "the padding can be up to " + std::to_string(kMaxSide);
  }
  if (!is_between(sides.channels, 1, kMaxSide) || !is_between(sides.filters, 1, kMaxSide)) {
    return "there must be 1 to " + std::to_string(kMaxSide) + " channels and filters";
  }
  if (sides.channels % program.groups || sides.filters % program.groups) {
    return "channels and filters must be multiples of the groups";
  }
  const int64_t rows = sides.out_rows * program.stride_down + program.rows;
  const int64_t cols = sides.out_cols * program.stride_across + program.cols;
  if (rows > kMaxReach || cols > kMaxReach ||
      static_cast<double>(rows) * cols * sides.channels * (program.sums.size() + 1) > kMaxElements) {
    return "the output is too large for the strides and the kernel";
  }
  return "";
}

}  // namespace tiedexp
