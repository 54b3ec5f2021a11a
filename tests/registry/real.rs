//! The reference registry, and skopeo on the other side of it.
