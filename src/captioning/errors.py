"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """A user's mistake: one line that says what is wrong, where, and what to do.

    Stages and the command line print its text and exit with status 1, without a traceback.
    """
