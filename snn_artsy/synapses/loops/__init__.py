"""The compiled loop of a spiking layer on the CPU (Numba): all steps of some neurons in one call.

A neuron's contacts depend on no other neuron, given the input: there is feed-forward inhibition and
none between neurons. So each neuron's contacts run through a block of steps while they lie in the
cache, and only those are touched that a spike reaches. In a batch spikes reach most of them in
every step; there a tile of neurons runs at a time, whose contacts with one input stand together, so
that a spike is a few vector instructions. Functions here release the interpreter lock;
`engine_numba` calls `steps.run` once a thread, for a share of the neurons each.

Arithmetic is float32, in the order of `engine_torch` and without fused operations, so that results
do not depend on how steps are cut into calls, nor on the number of threads. Sums over inputs may
be reordered by the compiler; with one-bit contacts they are sums of integers, hence exact.

`steps`, `draws` and `release` have the entry points; `contacts`, `neurons`, `sums` and `hashing`
are what they are made of, by `inner` for compiled code alone; `records`, which needs no Numba, is
what they take. Only the entry points are cached: Numba notices a change of the file that a cached
function stands in, and of no other (see `steps.SOURCES`).
"""
