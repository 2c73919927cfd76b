"""Data: sources, splits, the step-indexed pipeline, augmentation and reading of files to predict.

A source is named by a dotted path below this package: `sklearn.Digits`, `arrays.Npz`, `tabular.Csv`, `images.Folder`,
`text.TextFiles`, `text.StandardLibrary`, `tfds.Tfds`; or it is a user's own class, see `dl.data.source`.
"""
