"""Whose certificates are trusted beyond the store's: GitHub's and Label Studio's."""

import os
import ssl


def trusting() -> ssl.SSLContext:
    """Return what trusts the system's authorities and those of CA_BUNDLE, a file that may hold a cluster's own alone.

    Raises:
        OSError: CA_BUNDLE cannot be read.
    """
    trusted = ssl.create_default_context()
    if bundle := os.environ.get("CA_BUNDLE"):
        trusted.load_verify_locations(bundle)
    return trusted
