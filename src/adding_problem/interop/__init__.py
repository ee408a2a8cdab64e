"""Import and export: trained models, and sequences, in the files of other tools.

exporting       the trained model for Keras, TensorFlow, ONNX and torch.export
importing       a model trained elsewhere becomes a run folder
datafile        sequences for other frameworks, `.npz` or `.parquet`
keras_file, saved_model, plain_pickle    readers of untrusted files; each says what it executes
"""

from adding_problem.interop.datafile import write_data
from adding_problem.interop.exporting import Exported, Format, export
from adding_problem.interop.importing import Imported, import_model

__all__ = ["Exported", "Format", "Imported", "export", "import_model", "write_data"]
