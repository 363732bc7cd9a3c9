// The agent, as the build made it.
    .section .rodata
    .globl tl_agent_image, tl_agent_image_end
    .hidden tl_agent_image, tl_agent_image_end
    .balign 4096
tl_agent_image:
    .incbin "agent.bin"
tl_agent_image_end:
    .section .note.GNU-stack, "", @progbits
