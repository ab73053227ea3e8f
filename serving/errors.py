"""How requests are refused: always with a reason that a person can act on."""

from serving.vision.picture import PictureError, TooLargeError, UnsupportedError

RETRY_AFTER_SECONDS = 1


class Refused(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        reason: for the metrics: unsupported, unreadable, too_large, invalid, slow, busy or not_ready.
        message: for people.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        """Take what the attributes say."""
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


def refusal(error: PictureError) -> Refused:
    """What a picture that cannot be used means to its sender."""
    if isinstance(error, UnsupportedError):
        return Refused(415, "unsupported", str(error))
    if isinstance(error, TooLargeError):
        return Refused(413, "too_large", str(error))
    return Refused(400, "unreadable", str(error))
