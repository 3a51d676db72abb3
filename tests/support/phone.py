"""A phone in a folder, whose user answers as a test says, and whose time a test sets."""

from fedspeech.device.consent import Consents, Scope
from fedspeech.device.key_store import SoftwareKeyStore
from fedspeech.device.retention import MonotoneClock
from fedspeech.device.store import Store
from fedspeech.device.vault import Vault

AREA = "wake_word"
CLIP = b"MARKER-OF-A-CLIP " * 700  # longer than two pages of the database


class Time:
    """A time of the operating system that a test sets."""

    def __init__(self, seconds=1_000_000.0):
        self.seconds = seconds

    def __call__(self):
        return self.seconds


class Phone:
    """Store, consents and vault of one phone."""

    def __init__(self, folder, time=None):
        self.folder, self.time = folder, time or Time()
        self.answer, self.asked = True, []
        self.store = None
        self.restart()

    def restart(self, text=1):
        """As after a kill: nothing lives on but what is on disk."""
        if self.store is not None:
            self.store.close()
        keys, clock = SoftwareKeyStore(self.folder / "keys"), MonotoneClock(self.time)
        self.store = Store(self.folder / "phone", keys, clock=clock)
        self.consents = Consents(self.store.log, self.store.now, ask=self._ask, text=text)
        self.vault = Vault(self.store, self.consents)

    def _ask(self, scope):
        self.asked.append(scope)
        return self.answer

    def agree(self, purpose="federated_training", area=AREA, days=100):
        return self.consents.request(Scope(purpose=purpose, area=area), days=days)

    def keep(self, kind="clip", content=CLIP, purpose="federated_training", area=AREA, begun=""):
        return self.vault.keep(kind, content, purpose=purpose, area=area, begun=begun)

    def use(self, record, purpose="federated_training", area=AREA, **reader):
        return self.vault.use(record, purpose=purpose, area=area, **reader)
