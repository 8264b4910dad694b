// SPDX-License-Identifier: MIT
#pragma once
// The core of Eigenheads. Opt in to the rest by including it: io/..., plot/..., train/...
#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/call_options.hpp>
#include <eigenheads/context.hpp>
#include <eigenheads/dot_product_attention.hpp>
#include <eigenheads/dropout.hpp>
#include <eigenheads/error.hpp>
#include <eigenheads/explain.hpp>
#include <eigenheads/head_importance.hpp>
#include <eigenheads/isa.hpp>
#include <eigenheads/linear.hpp>
#include <eigenheads/mask.hpp>
#include <eigenheads/merge_attention.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/parameter.hpp>
#include <eigenheads/prune_heads.hpp>
#include <eigenheads/random.hpp>
#include <eigenheads/score.hpp>
#include <eigenheads/shape.hpp>
#include <eigenheads/softmax.hpp>
#include <eigenheads/strided_view.hpp>
#include <eigenheads/tensor.hpp>
#include <eigenheads/transpose.hpp>
#include <eigenheads/version.hpp>
