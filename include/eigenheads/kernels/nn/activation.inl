// SPDX-License-Identifier: MIT
// Activations. All of them but tanh are x times a share that rises from 0 to 1, and the share of -x is
// what is left of it. So with t = |x| and the share of -t, the tail, they are
//   f(x) = max(x, 0) - t tail(t),   f'(-t) = tail(t) - t tail'(-t),   f'(t) = 1 - f'(-t)
// and no digit is lost on either side: the result is exact to some units in the last place for every x.
//   gelu       tail = Phi(-t)
//   gelu_tanh  tail = 1 / (1 + e^z), z = 2 sqrt(2 / pi) (t + 0.044715 t^3)
//   silu       tail = 1 / (1 + e^t)
// Sizes are limited, so nothing overflows; beyond the limit what is subtracted is 0.

// max(x, 0) - t tail: `product` is t tail 2^tail_lift.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> above_tail(Register<T> x, Register<T> product) {
  return fma(product, broadcast(-tail_unit<T>), max(broadcast(T(0)), x));
}
// The slope at x, of which that at -|x| is slope / 2^tail_lift.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> slope_on_side(Register<T> x, Register<T> slope) {
  const Register<T> below = mul(slope, broadcast(tail_unit<T>));
  const Register<T> above = fma(slope, broadcast(-tail_unit<T>), broadcast(T(1)));
  return select_below(x, broadcast(T(0)), below, above);
}

struct Identity {
  template <class T>
  static EIGEN_ALWAYS_INLINE Register<T> value(Register<T> x) {
    return x;
  }
  template <class T>
  static EIGEN_ALWAYS_INLINE Register<T> gradient(Register<T>, Register<T> grad_y) {
    return grad_y;
  }
};

struct Relu {
  template <class T>
  static EIGEN_ALWAYS_INLINE Register<T> value(Register<T> x) {
    return nan_kept(x, max(broadcast(T(0)), x));
  }
  // 0 at 0, NaN at NaN.
  template <class T>
  static EIGEN_ALWAYS_INLINE Register<T> gradient(Register<T> x, Register<T> grad_y) {
    const Register<T> zero = broadcast(T(0));
    return nan_kept(x, select_below(zero, x, grad_y, max(zero, x)));
  }
};

struct Gelu {
  template <class T>
  static EIGEN_ALWAYS_INLINE Register<T> value(Register<T> x) {
    const Register<T> t = limited_size(x, NormalTail<T>::limit);
    return above_tail(x, mul(mul(t, normal_tail_ratio(t)), exp_of_square(t, T(0.5))));
  }
  // Phi(-t) - t phi(t)
  template <class T>
  static EIGEN_ALWAYS_INLINE Register<T> gradient(Register<T> x, Register<T> grad_y) {
    const Register<T> t = limited_size(x, NormalTail<T>::limit);
    const Register<T> density = broadcast(T(-0.3989422804014326779399461));  // of -phi(0)
    const Register<T> slope = mul(exp_of_square(t, T(0.5)), fma(t, density, normal_tail_ratio(t)));
    return mul(grad_y, slope_on_side(x, slope));
  }
};

// A tail of 1 / (1 + e^z): `power` is 2^tail_lift e^-z.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> one_and(Register<T> power) {
  return fma(power, broadcast(tail_unit<T>), broadcast(T(1)));
}
// Its slope with the tail, tail (1 - t z' (1 - tail)): z_slope is t z'.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> logistic_slope(Register<T> power, Register<T> z_slope) {
  const Register<T> one = broadcast(T(1)), rest = div(one, one_and(power));  // 1 - tail
  return mul(mul(power, rest), fma(negative(z_slope), rest, one));
}

struct Silu {
  template <class T>
  static EIGEN_ALWAYS_INLINE Register<T> value(Register<T> x) {
    const Register<T> t = limited_size(x, tail_limit<T>), power = exp_tail(negative(t));
    return above_tail(x, div(mul(t, power), one_and(power)));
  }
  template <class T>
  static EIGEN_ALWAYS_INLINE Register<T> gradient(Register<T> x, Register<T> grad_y) {
    const Register<T> t = limited_size(x, tail_limit<T>);
    return mul(grad_y, slope_on_side(x, logistic_slope(exp_tail(negative(t)), t)));
  }
};

struct GeluTanh {
  template <class T>
  static constexpr T limit = T(sizeof(T) == 4 ? 11.0 : 21.6);  // z is about tail_limit there
  template <class T>
  static constexpr T rate = T(1.595769121605730711759784);  // 2 sqrt(2 / pi)
  template <class T>
  static constexpr T cubic = T(0.07135481627260025377632875);  // rate * 0.044715

  template <class T>
  static EIGEN_ALWAYS_INLINE Register<T> exponent(Register<T> t, Register<T> square) {
    return mul(t, fma(square, broadcast(-cubic<T>), broadcast(-rate<T>)));
  }
  template <class T>
  static EIGEN_ALWAYS_INLINE Register<T> value(Register<T> x) {
    const Register<T> t = limited_size(x, limit<T>), power = exp_tail(exponent(t, mul(t, t)));
    return above_tail(x, div(mul(t, power), one_and(power)));
  }
  template <class T>
  static EIGEN_ALWAYS_INLINE Register<T> gradient(Register<T> x, Register<T> grad_y) {
    const Register<T> t = limited_size(x, limit<T>), square = mul(t, t);
    const Register<T> z_slope = mul(t, fma(square, broadcast(3 * cubic<T>), broadcast(rate<T>)));
    return mul(grad_y, slope_on_side(x, logistic_slope(exp_tail(exponent(t, square)), z_slope)));
  }
};

struct Tanh {
  template <class T>
  static EIGEN_ALWAYS_INLINE Register<T> value(Register<T> x) {
    return tanh_register(x);
  }
  // 1 - tanh^2 = 4 e / (1 + e)^2, e = e^(-2 t): as exact where tanh is nearly 1.
  template <class T>
  static EIGEN_ALWAYS_INLINE Register<T> gradient(Register<T> x, Register<T> grad_y) {
    const Register<T> t = limited_size(x, tail_limit<T> / 2);
    const Register<T> power = exp_tail(mul(t, broadcast(T(-2))));
    const Register<T> rest = div(broadcast(T(2)), one_and(power));
    return mul(grad_y, mul(mul(mul(power, broadcast(tail_unit<T>)), rest), rest));
  }
};

// run(Function) with the one that is asked for.
template <class Run>
EIGEN_ALWAYS_INLINE void with_activation(Activation activation, const Run& run) {
  switch (activation) {
    case Activation::identity:
      return run(Identity{});
    case Activation::relu:
      return run(Relu{});
    case Activation::gelu:
      return run(Gelu{});
    case Activation::gelu_tanh:
      return run(GeluTanh{});
    case Activation::silu:
      return run(Silu{});
    case Activation::tanh:
      return run(Tanh{});
  }
}

template <class T>
void activate(Activation activation, const T* x, T* y, Index count) {
  with_activation(activation, [&]<class Function>(Function) {
    map_array(x, y, count, [](Register<T> a) { return Function::value(a); });
  });
}

template <class T>
void activate_backward(Activation activation, const T* x, const T* grad_y, T* grad_x, Index count) {
  constexpr Index S = Register<T>::width;
  with_activation(activation, [&]<class Function>(Function) {
    for (Index i = 0; i < count; i += S) {
      T lanes[S], dy[S];
      const bool is_full = i + S <= count;
      if (!is_full) {
        std::fill(std::copy_n(x + i, count - i, lanes), lanes + S, T(0));
        std::fill(std::copy_n(grad_y + i, count - i, dy), dy + S, T(0));
      }
      store(is_full ? grad_x + i : lanes,
            Function::gradient(load(is_full ? x + i : lanes), load(is_full ? grad_y + i : dy)));
      if (!is_full) std::copy_n(lanes, count - i, grad_x + i);
    }
  });
}
