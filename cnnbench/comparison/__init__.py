"""Many runs to statistics, two runs side by side; for people in the terminal, for programs as files."""
