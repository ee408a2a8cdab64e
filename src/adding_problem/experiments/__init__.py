"""Many runs for one question: the certificate, the horizon, sweeps."""
