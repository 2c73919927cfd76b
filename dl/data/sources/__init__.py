"""Sources of examples, by the names that configs use: `sklearn.Digits`, `images.Folder`, `tfds.Tfds`."""
