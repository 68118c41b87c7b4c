"""The adversary that we ship: attacks that try to break our own claims, and say how sure they are."""
