"""`python -m voiceflow` (and `torchrun -m voiceflow`): the same as the command `voiceflow`."""

from voiceflow.cli.app import main

if __name__ == "__main__":
    main()
