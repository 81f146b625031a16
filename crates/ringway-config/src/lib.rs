//! YAML to a checked model, with every error located.
