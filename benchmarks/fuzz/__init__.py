"""Changes valid files of every kind, and looks at what the program makes of them.

A kind of file is a `target.Target`. Each kind has a module of its own beside this one, and `targets.TARGETS` names them
all. Inputs are made from a target's seeds by bytes (`byte_changes`), by structure (a Hypothesis strategy of the target,
such as that of `structure`), or by Atheris, which looks for inputs that reach new code (`ways`). `outcomes` tells a
success, a refusal and a failure apart. `session` runs inputs in a process that may crash, hang or take too much memory.

python -m benchmarks.fuzz --help
"""
