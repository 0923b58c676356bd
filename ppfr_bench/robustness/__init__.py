"""The robustness track: hardened recognizers, what is certified of them, and what attacks them.

``api`` has the nouns, ``smoothing`` the certificates, ``service`` the target, ``networks`` and ``distilling`` what rows
are trained with, and ``evasion`` what attacks share.
"""
