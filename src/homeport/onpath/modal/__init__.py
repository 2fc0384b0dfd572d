"""`import modal` where homeport is installed and Modal is not: this is homeport.

This directory's parent is the last one on the path (homeport-modal.pth), so Modal itself comes first where both
are installed. In scripts that homeport loads, `modal` is homeport in any case (sdk/alias.py).
"""

from homeport.sdk import alias

alias.install()
