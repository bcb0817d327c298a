OF_NOBODY = {"processes"}
