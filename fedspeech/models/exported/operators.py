"""The operators that an exported encoder may use: pure, deterministic, on tensors alone.

The list is closed. Among torch's own operators are some that read files (`from_file`), change
their inputs, draw random numbers or answer uninitialized memory; none of these can be part of a
frozen encoder.
"""

from __future__ import annotations

ARITHMETIC = """
    abs add addcdiv addcmul addmm addmv baddbmm bmm bitwise_and bitwise_not bitwise_or ceil clamp
    clamp_max clamp_min clip cos cumsum div divide dot einsum eq erf exp exp2 expm1 floor
    floor_divide fmod ge gt le linear log log10 log1p log2 logical_and logical_not logical_or
    logical_xor logsumexp lt matmul maximum minimum mm mul multiply mv ne neg negative outer pow
    reciprocal remainder round rsqrt rsub sgn sign sin sqrt square sub subtract tanh tan
    true_divide trunc where
"""

REDUCTIONS = """
    all amax amin any argmax argmin linalg_vector_norm max mean min norm prod std sum var var_mean
"""

LAYERS = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d alpha_dropout
    avg_pool1d avg_pool2d batch_norm celu channel_shuffle conv1d conv2d conv_transpose1d
    conv_transpose2d convolution cosine_similarity dropout elu embedding feature_dropout gelu glu
    group_norm gru gru_cell hardshrink hardsigmoid hardswish hardtanh instance_norm layer_norm
    leaky_relu log_sigmoid log_softmax lstm lstm_cell max_pool1d max_pool2d
    max_pool2d_with_indices mish native_group_norm native_layer_norm pixel_shuffle prelu relu relu6
    rms_norm rnn_relu rnn_tanh scaled_dot_product_attention selu sigmoid silu softmax softplus
    softshrink softsign tanhshrink threshold upsample_linear1d upsample_nearest1d
    upsample_nearest2d _adaptive_avg_pool1d _adaptive_avg_pool2d _convolution _log_softmax
    _native_batch_norm_legit_no_training _softmax _weight_norm _weight_norm_interface
"""

SIGNALS = """
    bartlett_window blackman_window fft_irfft fft_rfft hamming_window hann_window stft
    complex imag real view_as_complex view_as_real _fft_r2c
"""

SHAPES = """
    _assert_tensor_metadata _reshape_alias _to_copy _unsafe_view alias arange as_strided
    broadcast_tensors broadcast_to cat chunk clone concat concatenate constant_pad_nd contiguous
    detach diagonal expand expand_as eye flatten flip full full_like gather im2col index
    index_select lift_fresh lift_fresh_copy linspace masked_fill meshgrid movedim narrow new_full
    new_ones new_zeros numpy_T one_hot ones ones_like pad permute reflection_pad1d reflection_pad2d
    repeat repeat_interleave replication_pad1d replication_pad2d reshape reshape_as roll
    scalar_tensor select slice split split_with_sizes squeeze stack swapaxes swapdims sym_numel
    sym_size t tile to transpose tril triu type_as unbind unflatten unfold unsqueeze view view_as
    view_copy zeros zeros_like
"""

MEMORY = """
    _reshape_alias _unsafe_view alias alpha_dropout as_strided broadcast_tensors broadcast_to chunk
    contiguous detach diagonal dropout expand expand_as feature_dropout flatten imag lift_fresh
    meshgrid movedim narrow numpy_T permute real reshape reshape_as select slice split
    split_with_sizes squeeze swapaxes swapdims t to transpose type_as unbind unflatten unfold
    unsqueeze view view_as view_as_complex view_as_real
"""

OPERATORS = frozenset(" ".join((ARITHMETIC, REDUCTIONS, LAYERS, SIGNALS, SHAPES)).split())
"""Names in the namespace `aten`; each also with a trailing underscore, where the value that it
changes was computed by the program itself."""

SHARING = frozenset(MEMORY.split())
"""Operators whose result may be their input's own memory."""

INTEGERS = frozenset(("add", "sub", "mul", "floordiv", "mod", "neg"))
"""Python operators on sizes."""

MUST_BE_OFF = frozenset(("training", "train", "dropout_p"))
"""Arguments that would make an operator learn or draw."""
