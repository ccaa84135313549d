from videomatch.folders.library import Library as Library
