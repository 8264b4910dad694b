// SPDX-License-Identifier: MIT
#pragma once
// The layers of a transformer.
#include <eigenheads/nn/transformer_decoder_layer.hpp>
#include <eigenheads/nn/transformer_encoder_layer.hpp>
