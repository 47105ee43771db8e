"""What all tests share: property tests have no time limit, which a busy machine misses, and repeat exactly."""

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
