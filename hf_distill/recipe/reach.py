"""Can the Hugging Face Hub be reached? Asked once, and answered within seconds."""

from __future__ import annotations

import functools
import logging
import threading

import datasets
import huggingface_hub

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0


@functools.cache
def hub_reachable() -> bool:
    """Whether the Hub answers at all. Where it does not, the libraries go offline and look only into their caches.

    Left to themselves they try again and again: half a minute for each file.
    """
    answered = threading.Event()

    def knock() -> None:
        try:
            huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=PATIENCE_SECONDS)
            answered.set()
        except Exception as error:  # the client's library, and so its exceptions, differ between versions
            logger.debug("The Hub does not answer: %s", error)
        finally:
            done.set()

    done = threading.Event()
    # In a thread of its own, because looking up a host name obeys no timeout.
    threading.Thread(target=knock, daemon=True).start()
    done.wait(PATIENCE_SECONDS + 1.0)
    if not answered.is_set():
        logger.warning("%s cannot be reached: looking only into the local cache.", huggingface_hub.constants.ENDPOINT)
        huggingface_hub.constants.HF_HUB_OFFLINE = True
        datasets.config.HF_HUB_OFFLINE = True
    return answered.is_set()
