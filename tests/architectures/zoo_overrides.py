"""What single model types need beside the generic sizes: where the architecture has parts of other sizes or kinds."""

from typing import Any

UNSET = object()
"""Marks a generic size that a model type has a name for, but takes from elsewhere."""
LATENT = {"num_key_value_heads": 4}
"""Latent attention has as many key heads as query heads."""
GROUPS = {"n_routed_experts": 8, "n_group": 4, "topk_group": 2}
"""Experts in groups of two, of which two groups are looked at."""
MIXED = ["dense", "sparse", "sparse"]
DENSE_FIRST = {"mlp_only_layers": [0]}
SPEECH = {
    "speech_encoder_layers": 1,
    "speech_encoder_intermediate_size": 8,
    "t2u_encoder_layers": 1,
    "t2u_decoder_layers": 1,
    "t2u_encoder_ffn_dim": 8,
    "t2u_decoder_ffn_dim": 8,
    "t2u_vocab_size": 20,
    "speech_encoder_attention_heads": 4,
    "t2u_encoder_attention_heads": 4,
    "t2u_decoder_attention_heads": 4,
    "unit_embed_dim": 8,
    "unit_hifi_gan_vocab_size": 20,
    "upsample_initial_channel": 32,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "max_source_positions": 64,
}
GEMMA_SIDE = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 99,
    "max_position_embeddings": 64,
}

ROTARY = {"rope_type": "default", "rope_theta": 1e4}
AXES = {"rope_parameters": {**ROTARY, "mrope_section": [2, 1, 1]}}
"""Rotary frequencies of a head, half as many as it is wide, divided among the axes of an image."""
HALF_AXES = {"rope_parameters": {**ROTARY, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5}, "head_dim": 16}

OVERRIDES: dict[str, dict[str, Any]] = {
    "axk1": {**LATENT, **GROUPS},
    "axk2": {**LATENT, **GROUPS},
    "bamba": {"attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 4},
    "cohere2_moe": {"mlp_layer_types": MIXED, "prefix_dense_intermediate_size": 40, "num_shared_experts": 2},
    "cohere_compass_text": {"rope_parameters": dict.fromkeys(("full_attention", "sliding_attention"), ROTARY)},
    "cosmos3_edge_text": AXES,
    "dbrx": {
        "n_heads": 4,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 40, "moe_num_experts": 4, "moe_top_k": 2},
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
    "deepseek_v2": {**LATENT, **GROUPS, "topk_method": "group_limited_greedy"},
    "deepseek_v3": {**LATENT, **GROUPS},
    "deepseek_v32": {**LATENT, **GROUPS},
    "dots3_note_text": {
        **LATENT,
        "shared_experts_intermediate_size": 28,
        "mlp_layer_types": MIXED,
        "layer_types": ["indexed_attention"] * 3,
    },
    "esmc": LATENT,
    "funnel": {"block_sizes": [1, 1], "num_hidden_layers": UNSET, "architectures": ["FunnelModel"]},
    "gemma3n_text": {
        "num_kv_shared_layers": 1,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "activation_sparsity_pattern": [0.75, 0.0, 0.0],
        "vocab_size_per_layer_input": 99,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 8,
    },
    "gemma4_text": {"vocab_size_per_layer_input": 99, "hidden_size_per_layer_input": 8},
    "gemma4_text:moe": {"enable_moe_block": True},
    "glm4_moe_lite": LATENT,
    "glm_moe_dsa": {**LATENT, **GROUPS},
    "glm4v_moe_text": HALF_AXES,
    "glm4v_text": AXES,
    "glm_image_text": AXES,
    "glm_ocr_text": AXES,
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba"]},
    "flint": {"mlp_only_layers": [1]},
    "inkling_text": {"mlp_layer_types": MIXED, "n_shared_experts": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {**LATENT, "linear_head_dim": 8, "linear_num_heads": 2},
    "hunyuan_vl_text": AXES,
    "layoutlmv3": {"visual_embed": False, "coordinate_size": 5, "shape_size": 6},
    "led": {"attention_window": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"], "num_dense_layers": 1},
    "lilt": {"hidden_size": 48},
    "llama": {"mlp_bias": True},
    "llama4_text": {"interleave_moe_layer_step": 2},
    "longcat_flash": {**LATENT, "zero_expert_num": 2},
    "longformer": {"attention_window": 4},
    "luke": {"entity_vocab_size": 20, "entity_emb_size": 8},
    "mamba2": {"hidden_size": 32, "num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    "mellum": {"mlp_layer_types": MIXED},
    "minicpm3": LATENT,
    "minimax_m3_vl_text": {"mlp_layer_types": MIXED, "dense_intermediate_size": 40},
    "mistral_large4_text": {**LATENT, **GROUPS},
    "mistral4": {**LATENT, **GROUPS},
    "nemotron_h": {"layers_block_type": ["mamba", "moe", "attention", "mlp"], "num_hidden_layers": 4},
    "nllb-moe": {"encoder_sparse_step": 2, "decoder_sparse_step": 2, "router_dtype": "float32"},
    "qwen2_5_vl_text": AXES,
    "qwen2_vl_text": AXES,
    "qwen2_moe": DENSE_FIRST,
    "qwen3_moe": DENSE_FIRST,
    "qwen3_next": DENSE_FIRST,
    "reformer": {
        "axial_pos_embds_dim": [16, 16],
        "axial_pos_shape": [4, 4],
        "feed_forward_size": 40,
        "attn_layers": ["local", "local", "local"],
        "local_attn_chunk_length": 4,
        "attention_head_size": 8,
    },
    "seamless_m4t": SPEECH,
    "seamless_m4t_v2": SPEECH,
    "switch_transformers": {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "expert_capacity": 3},
    "t5:gated": {"feed_forward_proj": "gated-gelu"},
    "t5gemma": {"encoder": GEMMA_SIDE, "decoder": GEMMA_SIDE, "vocab_size": 99},
    "t5gemma2": {
        "encoder": {
            "text_config": GEMMA_SIDE,
            "vision_config": {
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 16,
                "patch_size": 8,
            },
            "mm_tokens_per_image": 4,
            "vocab_size": 99,
        },
        "decoder": GEMMA_SIDE,
        "image_token_index": 98,
        "eoi_token_index": 97,
    },
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "youtu": LATENT,
    "zamba": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
    },
    "zamba2": {
        "num_hidden_layers": 5,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid", "hybrid"],
        "num_mem_blocks": 2,
        "adapter_rank": 4,
        "n_mamba_heads": 4,
        "mamba_ngroups": 1,
        "chunk_size": 8,
    },
    "zaya": {"num_experts_per_tok": 1},
}
