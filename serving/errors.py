"""Refused requests: the status, and a reason that the client can act on."""

from serving.vision.picture import PictureError, TooLargeError, UnsupportedError

RETRY_AFTER_SECONDS = 1


class Refused(Exception):  # noqa: N818 - an answer to the client, not an error of the server
    """A request that is refused.

    Attributes:
        status: HTTP status.
        reason: for the metrics: unsupported, unreadable, too_large, invalid, slow, busy or not_ready.
        message: for people.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        """Take the attributes."""
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


def refusal(error: PictureError) -> Refused:
    """Return the refusal for a picture that cannot be used."""
    if isinstance(error, UnsupportedError):
        return Refused(415, "unsupported", str(error))
    if isinstance(error, TooLargeError):
        return Refused(413, "too_large", str(error))
    return Refused(400, "unreadable", str(error))
