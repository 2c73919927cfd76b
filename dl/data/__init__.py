"""The batch of a step: sources, splits, pipeline, augmentation; and files to predict.

A source is named by a dotted path below `dl.data.sources`: `sklearn.Digits`, `arrays.Npz`, `tabular.Csv`,
`images.Folder`, `text.TextFiles`, `tfds.Tfds`; or it is a user's own class, see `dl.data.source`.
"""
