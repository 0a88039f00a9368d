"""Training against its peers: ``variants`` are the measured trainings, ``kills`` the fault drill."""
