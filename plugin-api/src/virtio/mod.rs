//! What the virtio devices share.
