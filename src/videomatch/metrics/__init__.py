"""What is measured."""

import re

#: metrics of which more is better, also as ``val/<metric>``; of all others, and of losses, less is
HIGHER = re.compile(
    r"(?:^|/)(?:Spearman|Pearson|mAP|R@(?:\d+|sum)|F1|precision|recall|AP|uAP|infAP|infNDCG|iP@\d+)(?: |$)"
)
#: R@k of a factor: among the references that share a value of it
OF_FACTOR = re.compile(r"R@([1-9]\d*) \((\w+)\)")
