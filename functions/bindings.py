"""Requests of one row, answered in memory that is bound to the session beforehand.

Of a small model's 9 µs in onnxruntime half go to describing the request's arrays to it and the answer's to Python. Used
by `functions.model` alone, for what most requests are; everything else goes through the session's own `run`.
Source: onnxruntime's Python API, IOBinding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from functions.tensors import Array

UNWRITTEN = 0xA5  # each byte of an output before the run that proves it: no answer by chance
MAX_BYTES = 64 * 1024  # of a row and its answer together: to copy more takes longer than to describe it


class Bindings:
    """For one session on the CPU. Any thread may infer; each run has memory of its own.

    session: onnxruntime's InferenceSession; options: the RunOptions of every run.
    What an answer of one row looks like is learnt from the first such answer, not from the graph, which need not tell.
    onnxruntime itself refuses a run whose outputs do not fit the memory bound for them.
    """

    def __init__(self, session: Any, options: Any) -> None:
        self._session = session
        self._options = options
        # What `session.run_with_iobinding` itself calls, after checks that cost as much as the run.
        self._run = session._sess.run_with_iobinding
        self._example: tuple[Mapping[str, Array], Mapping[str, Array]] = ({}, {})
        self._free: list[_Binding] | None = None
        self._refused: Mapping[str, Array] | None = None
        self.learns = True

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array] | None:
        """Every output, as `run` gives it; None for a request that must go there: not one row, or one that fails."""
        free = self._free
        if free is None:
            return None
        try:
            binding = free.pop()
        except IndexError:
            binding = _Binding(self._session, *self._example)
        for name, memory, shape, dtype in binding.inputs:
            array = inputs.get(name)
            if array is None or array.shape != shape or array.dtype is not dtype:
                free.append(binding)
                return None
            memory[...] = array
        try:
            self._run(binding.binding, self._options)
        except Exception:  # noqa: BLE001 - the same request goes to `run`, which says what is wrong with it
            # Where nothing is, `learn` hears of it.
            self._refused = inputs
            return None
        answer = {name: memory.copy() for name, memory in binding.outputs}
        free.append(binding)
        return answer

    def learn(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """`run` has answered all outputs of a request that `infer` did not take."""
        if self._free is not None:
            if self._refused is inputs:
                # Its answers differ in shape from row to row: no memory fits them.
                self._free, self.learns = None, False
            return
        if any(array.shape[:1] != (1,) for array in inputs.values()):
            return
        arrays = (*inputs.values(), *outputs.values())
        if any(array.dtype.kind == "O" for array in arrays) or sum(array.nbytes for array in arrays) > MAX_BYTES:
            self.learns = False
        elif (binding := self._proved(inputs, outputs)) is not None:
            self._example, self._free = (inputs, outputs), [binding]
        else:
            self.learns = False

    def _proved(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> _Binding | None:
        """A binding that gives `outputs` for `inputs`; None where it does not.

        onnxruntime writes no output that is an input of the graph as it is: what it is bound to would keep what it had.
        """
        binding = _Binding(self._session, inputs, outputs)
        for name, memory, _, _ in binding.inputs:
            memory[...] = inputs[name]
        for _, memory in binding.outputs:
            memory.reshape(-1).view(np.uint8)[...] = UNWRITTEN
        try:
            self._run(binding.binding, self._options)
        except Exception:  # noqa: BLE001 - what fails here goes to `run`, always
            return None
        same = all(memory.tobytes() == outputs[name].tobytes() for name, memory in binding.outputs)
        return binding if same else None


class _Binding:
    """Memory for one run: inputs with their shape and dtype, outputs, and the session's view of both."""

    __slots__ = ("binding", "inputs", "outputs")

    def __init__(self, session: Any, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        bound = session.io_binding()
        self.inputs: list[tuple[str, Array, tuple[int, ...], np.dtype[Any]]] = []
        self.outputs: list[tuple[str, Array]] = []
        for name, array in inputs.items():
            memory = np.zeros(array.shape, array.dtype)
            bound.bind_input(name, "cpu", 0, array.dtype.type, array.shape, memory.ctypes.data)
            self.inputs.append((name, memory, array.shape, array.dtype))
        for name, array in outputs.items():
            memory = np.zeros(array.shape, array.dtype)
            bound.bind_output(name, "cpu", 0, array.dtype.type, array.shape, memory.ctypes.data)
            self.outputs.append((name, memory))
        self.binding = bound._iobinding
