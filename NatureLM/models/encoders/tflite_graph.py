"""A tflite file as a list of operations and constants.

Knows the flatbuffer's layout through the ``tflite`` package, nothing of what the graph computes. Reading runs no code of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tflite

from NatureLM.errors import CheckpointError

_OPS = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
_DAMAGE = (struct.error, ValueError, IndexError, KeyError, TypeError, AttributeError)
"""What reading a flatbuffer that was cut short can raise."""
_DTYPES = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.INT32: np.int32}


@dataclass(frozen=True)
class Op:
    """One operation of the graph.

    Attributes:
        name: Of the kind of operation, as in the format.
        inputs: Numbers of the tensors that it reads.
        output: Number of the tensor that it writes.
        options: The flatbuffer's table of its options.
    """

    name: str
    inputs: tuple[int, ...]
    output: int
    options: Any


class Graph:
    """The flatbuffer, read.

    Args:
        path: The file.

    Raises:
        CheckpointError: It is no tflite file.
    """

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        if data[4:8] != b"TFL3":
            raise CheckpointError(f"{path}: is no tflite file.")
        try:
            self._read(data)
        except _DAMAGE as error:
            raise CheckpointError(f"{path}: is damaged ({error}); fetch it anew.") from error

    def _read(self, data: bytes) -> None:
        self._model = tflite.Model.GetRootAs(data, 0)
        self._graph = self._model.Subgraphs(0)
        self.ops = [self._op(i) for i in range(self._graph.OperatorsLength())]
        self.names = [
            self._graph.Tensors(i).Name().decode() for i in range(self._graph.TensorsLength())
        ]

    def constant(self, tensor: int) -> np.ndarray | None:
        """Read a constant tensor; ``None`` for one that is computed."""
        meta = self._graph.Tensors(tensor)
        raw = self._model.Buffers(meta.Buffer()).DataAsNumpy()
        if not isinstance(raw, np.ndarray):
            return None
        shape = meta.ShapeAsNumpy() if meta.ShapeLength() else []
        return raw.view(_DTYPES[meta.Type()]).reshape([int(n) for n in shape])

    def weights(self, op: Op) -> tuple[np.ndarray, np.ndarray]:
        """Read the weight and the bias of a layer, copied out of the file."""
        weight, bias = (self.constant(tensor) for tensor in op.inputs[1:3])
        if weight is None or bias is None:
            raise CheckpointError(f"the encoder's file has a {op.name} without constant weights.")
        return weight.copy(), bias.copy()

    def named(self, ending: str) -> np.ndarray:
        """Read the constant whose name ends so."""
        for tensor, name in enumerate(self.names):
            if name.endswith(ending):
                value = self.constant(tensor)
                if value is not None:
                    return value
        raise CheckpointError(f"the encoder's file has no constant {ending!r}.")

    def _op(self, index: int) -> Op:
        op = self._graph.Operators(index)
        code = self._model.OperatorCodes(op.OpcodeIndex())
        name = _OPS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs = tuple(int(i) for i in op.InputsAsNumpy() if i >= 0)
        return Op(name, inputs, int(op.OutputsAsNumpy()[0]), op.BuiltinOptions())
