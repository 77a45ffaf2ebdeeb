"""Everything that touches ESPnet. Importing this package makes the plugin's choices known to it.

No ESPnet module is imported for that, and none is changed on disk: see :mod:`.registry`.
"""

from uas_plugin.espnet.registry import install

install()
