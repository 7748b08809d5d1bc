"""One file per command of ``lic``: its first line is the help, ``arguments`` and ``run`` the rest.

Files are found, not listed; a name that begins with an underscore is no command. Heavy imports
belong inside ``run``: torch takes seconds, and --help should not wait for it.
"""
