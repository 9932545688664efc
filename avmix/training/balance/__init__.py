"""Balanced multimodal learning: a file a method, and `balancing`, which the loop over steps asks.

    ogm_ge     smaller updates of the encoder that is ahead
    mmpareto   gradients of the fused and of the modality loss, combined
    opm        the modality that is ahead is left out of some clips
    umt        distillation from networks of one modality
    g_blend    weights of the heads' losses, by how they generalise
    scores     how sure each modality head is of the truth
    branches   which weights are of one modality alone

docs/balance.md says what each is and what it costs.
"""
