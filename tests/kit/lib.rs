//! What tests of several rooms share. Empty so far: each has a kit of its own, `e2e` in `e2e/kit`.
