"""The user's own folders of videos: an index of each, and what is asked of it.

``library`` is the interface for programs (:class:`videomatch.folders.library.Library`); ``commands`` is the same for
the command line. ``folder_index`` makes an index and keeps it up to date, ``folder_search`` finds moments in it, and
``duplicates`` groups its files; ``duplicate_list`` writes these groups as a list, and deletes what a person marked.
"""
