"""What an entry of ``params.yaml`` holds: one frozen dataclass per kind of entry.

A field without a default is an option that must be given. The check of the parameters, the settings of jobs and the
arguments of stages read these classes, so a new option is one new field. Nothing here imports torch.
"""
