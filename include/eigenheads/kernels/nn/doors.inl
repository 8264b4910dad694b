// SPDX-License-Identifier: MIT
// The door to the kernels of nn/ in this namespace (see kernels/doors.inl).

struct NnDoor {
  template <class T>
  static NnKernels<T> kernels() {
    return {.erf_array = erf_array<T>,
            .tanh_array = tanh_array<T>,
            .sin_array = sin_array<T>,
            .cos_array = cos_array<T>,
            .activate = activate<T>,
            .activate_backward = activate_backward<T>,
            .norm_rows = norm_rows<T>,
            .norm_backward_rows = norm_backward_rows<T>,
            .norm_parameter_sums = norm_parameter_sums<T>};
  }

  template <class T>
  static AdditiveKernels<T> additive() {
    return {.pack_groups = pack_groups<T>,
            .scratch = additive_scratch<T>,
            .attend = additive_attend<T>,
            .backward_scratch = additive_backward_scratch<T>,
            .backward = additive_backward<T>};
  }
};
