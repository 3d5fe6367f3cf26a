"""models/encoders/beats."""
